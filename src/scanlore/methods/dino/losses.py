"""The losses of DINOv2 as pure functions (Caron et al. 2021; Zhou et al. 2022; Oquab et al. 2023, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scanlore.methods.collectives import all_count, all_max, all_rows, all_sum

SMALLEST = torch.finfo(torch.float32).tiny


def sinkhorn_knopp(logits_NK: Tensor, temp: float, iterations: int) -> Tensor:
    """Return targets whose prototypes are used equally often over all processes (Caron et al. 2020, SwAV).

    Args:
        logits_NK: Teacher outputs.
        temp: Teacher temperature.
        iterations: Of alternating normalisation.

    Returns:
        `(N, K)` float32; rows sum to one.
    """
    scaled = logits_NK.float() / temp
    count = all_count(len(scaled), scaled.device)
    peak = scaled.max() if len(scaled) else scaled.new_full((), -torch.inf)
    q_NK = torch.exp(scaled - all_max(peak))
    q_NK /= all_sum(q_NK.sum())
    for _ in range(iterations):
        # A prototype far from every row has underflown to zeros; it stays unused instead of becoming 0 / 0
        q_NK /= (all_sum(q_NK.sum(0, keepdim=True)) * q_NK.shape[1]).clamp_min(SMALLEST)
        q_NK /= (q_NK.sum(1, keepdim=True) * count).clamp_min(SMALLEST)
    return q_NK.mul_(count)


def softmax_center(logits_NK: Tensor, center_K: Tensor, temp: float) -> Tensor:
    """Return targets as the sharpened softmax of centred teacher outputs (DINO, eq. 2)."""
    return ((logits_NK.float() - center_K) / temp).softmax(-1)


def updated_center(center_K: Tensor, logits_NK: Tensor, momentum: float) -> Tensor:
    """Return the running mean of teacher outputs over all processes (DINO, eq. 4).

    Without outputs, or with some that are not finite, the mean stays as it is.
    """
    mean = all_sum(logits_NK.float().sum(0)) / all_count(len(logits_NK), logits_NK.device)
    return torch.where(mean.isfinite().all(), momentum * center_K + (1 - momentum) * mean, center_K)


def image_loss(student_SBK: Tensor, teacher_TBK: Tensor, temp: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every student view with every teacher view but its own, averaged over the pairs (DINO, eq. 3).

    Args:
        student_SBK: Student outputs of S views; the first T are those the teacher saw.
        teacher_TBK: Teacher targets of T views.
        temp: Student temperature.

    Returns:
        The shares of the average that come from global and from local student views.
    """
    scaled = student_SBK.float() / temp
    normaliser_SB = torch.logsumexp(scaled, dim=-1)
    with torch.autocast(scaled.device.type, enabled=False):
        agreement_STB = torch.einsum("sbk,tbk->stb", scaled, teacher_TBK)
    pairs_ST = (normaliser_SB[:, None] - agreement_STB).mean(-1)
    num_views, num_teacher = pairs_ST.shape
    same = torch.eye(num_views, num_teacher, dtype=torch.bool, device=pairs_ST.device)
    pairs_ST = pairs_ST.masked_fill(same, 0.0) / (num_views * num_teacher - num_teacher)
    return pairs_ST[:num_teacher].sum(), pairs_ST[num_teacher:].sum()


def patch_loss(student_MK: Tensor, teacher_MK: Tensor, weights_M: Tensor, num_crops: int, temp: float) -> Tensor:
    """Cross-entropy at hidden patches, averaged within each crop, then over all crops (iBOT, eq. 2).

    Args:
        student_MK: Student outputs at the hidden patches of all crops.
        teacher_MK: Teacher targets there.
        weights_M: One over the number of hidden patches of each patch's crop.
        num_crops: Global crops in the batch; those without hidden patches count as zero.
        temp: Student temperature.
    """
    scaled = student_MK.float() / temp
    entropy_M = torch.logsumexp(scaled, dim=-1) - (teacher_MK * scaled).sum(-1)
    return (entropy_M * weights_M).sum() / num_crops


def koleo(embeddings_BD: Tensor, gathered: bool = False) -> Tensor:
    """Kozachenko-Leonenko regulariser: spread embeddings apart (Sablayrolles et al. 2019).

    Args:
        embeddings_BD: Of one view per scan; fewer than two to choose from give zero, as there is no neighbour.
        gathered: Whether neighbours are sought among the scans of all processes; the mean over processes is then the
            loss, and has the gradient, of one process with all scans.
    """
    with torch.autocast(embeddings_BD.device.type, enabled=False):
        unit_BD = F.normalize(embeddings_BD.float(), dim=-1)
        pool_ND, first = all_rows(unit_BD) if gathered else (unit_BD, 0)
        if len(pool_ND) < 2:
            return embeddings_BD.sum() * 0.0
        with torch.no_grad():
            similarity_BN = unit_BD @ pool_ND.T
            similarity_BN[:, first : first + len(unit_BD)].fill_diagonal_(-1)
            nearest_B = similarity_BN.argmax(1)
        distance = F.pairwise_distance(unit_BD, pool_ND[nearest_B], eps=1e-8)
        return -torch.log(distance + 1e-8).mean()
